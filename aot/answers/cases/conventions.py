r"""Cases for matrices, for the conventions of data sets, and for places and forms in which models write answers.

A line is `verdict | gold | answer`: R right, W wrong, ? cannot be told; a heading names the answer type and, where it
is not strict, the reading. Every leniency stands beside the near-miss that it must not let through.
"""

TABLE = r"""
# expression
R | \begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix}1\\2\end{pmatrix}
R | \begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{bmatrix} 1 \\ 2 \end{bmatrix}
R | \begin{pmatrix} 1 \\ 2 \end{pmatrix} | \left(\begin{array}{c} 1 \\ 2 \end{array}\right)
R | \begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix} 1 \\[4pt] 2 \\ \end{pmatrix}
R | \begin{pmatrix} 1/2 \\ 2 \end{pmatrix} | \begin{pmatrix} 0.5 \\ \frac{4}{2} \end{pmatrix}
R | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix}1&2\\3&4\end{pmatrix}
R | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | $\left[\begin{array}{cc}1&2\\3&4\end{array}\right]$
R | \begin{pmatrix} x+1 & 0 \\ 0 & \sqrt{8} \end{pmatrix} | \begin{pmatrix} 1+x & 0 \\ 0 & 2\sqrt{2} \end{pmatrix}
R | \begin{pmatrix} 4 \\ 6 \end{pmatrix} | \begin{pmatrix}1\\2\end{pmatrix} + \begin{pmatrix}3\\4\end{pmatrix}
W | \begin{pmatrix} 4 \\ 6 \end{pmatrix} | \begin{pmatrix}1\\2\end{pmatrix} + \begin{pmatrix}4\\3\end{pmatrix}
W | \begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix} 2 \\ 1 \end{pmatrix}
W | \begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix} 1 & 2 \end{pmatrix}
W | \begin{pmatrix} 1 \\ 2 \\ 5 \end{pmatrix} | \begin{pmatrix} 5 \\ 2 \\ 1 \end{pmatrix}
W | \begin{pmatrix} 1 \\ 2 \\ 5 \end{pmatrix} | \begin{pmatrix} 1 \\ 2 \end{pmatrix}
W | \begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix} 12 \end{pmatrix}
W | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}
W | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix} 3 & 4 \\ 1 & 2 \end{pmatrix}
W | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix} 1 & 2 & 3 & 4 \end{pmatrix}
W | \begin{pmatrix} 1 & -2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
W | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}
? | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | -2
? | \begin{pmatrix} 1 \\ 2 \end{pmatrix} | (1, 2)
W | 6 cm | 6 m
R | \frac{1}{3} | 0.\overline{3}
R | \frac{1}{6} | 0.1\overline{6}
R | \frac{1}{7} | 0.(142857)
? | \frac{1}{3} | 0.\overline{33}4
W | \frac{1}{3} | 0.3\overline{4}
R | \sum_{k=1}^{n} a_k b_k | \sum_{k=1}^{n} b_k a_k
W | 3-1/2 | 7/2
# number
R | 1234 | 1 234
R | 1234 | 1'234
R | 1234 | 1_234
R | 1234.5 | 1 234.5
R | 100000 | 1,00,000
R | 12345678 | 1,23,45,678
R | 12 | ١٢
R | 12 | १२
R | 12 | １２
R | 2/5 | ⅖
R | 5/6 | ⅚
R | 7/2 | 3½
R | 7/2 | 3-1/2
R | 4/3 | 1.\overline{3}
? | 12345 | 12 34 5
? | 1234 | 1 23 4
? | 1234 | 123 4
? | 12 | 1 2
? | 5/2 | 3 - 1/2
W | 5/2 | 3-1/2
? | 1234.5 | 1.234,5
? | 1234 | 1 234/500
W | 1234 | 1,00,234
W | 250 | 2.50
? | 250 | 2,50
# text
R | even | \text{even}
R | \text{even} | even
R | \text{Evelyn} | $\textbf{Evelyn}$
R | no solution | There is no solution.
R | no solution | \text{No solutions}
W | even | \text{odd}
W | no solution | no real solution
W | no solution | There is one solution.
W | no solution | 0
# number bare_number
R | 29 | $29.00
R | 29 | \$29
R | 18 | $18 per day
R | 9500 | $9{,}500
R | 72 | 72 clips
R | 72 | 72\text{ clips}
R | 70000 | $70,000
R | 5 | 5 (five pens)
R | 5 | five pens
R | 5 | Tim has 5 pens.
R | 5 | 5 more pens
R | 5 | 3 + 2 = 5
R | 29 | Total = $29
R | 60 | 5 dozen eggs
R | 20 | 20%
R | -5 | -5 degrees
R | 7/2 | 3 1/2 cups
R | 1234 | 1,234 km
W | 5 | 5 or 6
W | 5 | $5 or $6
W | 5 | 6 pens
W | 5 | 50 cents
W | 5 | 5 dozen eggs
W | 5 | 5 hundred
W | 29 | $2.90
? | 5 | 5 (not 6)
? | 5 | 5 out of 10
? | 5 | about 5 pens
? | 5 | at least 5
? | 5 | less than 5
? | 5 | 5k
? | 5 | 5 K
? | 5 | 5 squared
? | 5 | 5!
? | 5 | 5x
? | 5 | x + 1 = 5
? | 5 | 5 = 6
? | 5 | half of 5
? | 5 | 5 pens and 3 cups
? | 5 | 5-6 pens
? | 5 | 5:30
? | 5 | 5 p.m.
? | 5 | step 5
? | 5 | 5 degrees below zero
? | 5 | not 5
? | 5 | 5 and a half pens
? | 5 | 5 and a bit
? | 5 | multiples of 5
? | 5 | 5 x
? | 5 | 5th
? | 5 | 10^5
# integer contest
R | 90 | 90^\circ
R | 90 | 90°
R | 6 | 6\text{ cm}^2
R | 10 | 10\%
R | 5 | x = 5
R | 11 | x = 5 + 6 = 11
W | 10 | 10 \text{ or } 11
W | 5 | x = 6
? | 5 | x + 1 = 5
? | 5 | x > 5
W | 5 | 5t
? | 5 | \approx 5
W | 5 | 5\pi
? | 0 | a + 3z = 0
# expression contest
R | x \in [-2,7] | [-2,7]
R | x > 3 | (3, \infty)
R | y = 2x + 3 | 2x + 3
R | 3\sqrt{13} | 3\sqrt{13}\text{ cm}
R | 6\text{ cm}^2 | 6
R | 15\mbox{ cm}^2 | 15\text{ cm}^2
R | 1 \pm \sqrt{19} | 1 + \sqrt{19}, 1 - \sqrt{19}
R | |z| \le 2 | [-2, 2]
R | 2x + 4y - 3 = 0 | y = -\frac{1}{2}x + \frac{3}{4}
W | 6\text{ cm} | 6\text{ m}
R | 6\text{ cm} | 60\text{ mm}
W | 3\sqrt{13}\text{ m} | 3\sqrt{13}\text{ cm}
W | x \in [-2,7] | [-2,7)
W | x > 3 | [3, \infty)
W | 1 \pm \sqrt{19} | 1 + \sqrt{19}
W | \pm 5 | 5
W | x = 5 | y = 5
? | 2x + z = 1 | 1
? | 7 = 11a + c | 11a + c
# collection contest
R | [-2,7] | -2 \le x \le 7
R | (-2,7) | -2 < x < 7
R | 1,-2 | x = 1 \text{ or } x = -2
R | 1,-2 | -2, 1
R | 1,-2 | \{1,-2\}
R | (1,2) | (x,y) = (1,2)
R | (5,8),(8,5) | (x,y) = (8,5) \text{ and } (5,8)
R | x=1,y=2 | 1, 2
R | \{1\pm\sqrt{5},-2\} | -2, 1+\sqrt{5}, 1-\sqrt{5}
R | (-\infty,1)\cup(3,\infty) | x < 1 \text{ or } x > 3
R | (\frac{1}{2},\sqrt{8}) | \left(0.5, 2\sqrt{2}\right)
W | [-2,7] | -2 \le x < 7
W | [-2,7] | -2 < x < 7
W | 1,-2 | x = 1
W | 1,-2 | 1, 2
W | (1,2) | (2,1)
R | (2,3) | x = 2, y = 3
W | (2,3) | x = 3, y = 2
W | (1,2),(3,4) | (2,1),(3,4)
W | (\sqrt{2},1) | (1,\sqrt{2})
W | x=1,y=2 | 2, 1
W | (5,8),(8,5) | (5,8)
W | 21,16,11 | 21, 16
? | (2,5) | x > 2 \text{ and } x < 5
"""

REPLIES: tuple[tuple[str, str, str, str], ...] = (
    ("R", "integer", "5", "3 + 2 = 5\n<answer>\n5\n</answer>"),
    ("R", "integer", "5", "<think>6</think><answer>5</answer>"),
    ("R", "integer", "5", "<answer>The final answer is 5.</answer>"),
    ("R", "integer", "5", "<answer>\\boxed{5}</answer>"),
    ("R", "integer", "5", "Answer:\n\n5"),
    ("R", "integer", "5", "We add.\n\n## Answer\n\n5"),
    ("R", "integer", "5", "We add.\n\n**Final Answer**\n\n$$\n5\n$$"),
    ("R", "integer", "5", "Final Answer: The final answer is $5$. I hope it is correct."),
    ("R", "integer", "18", "#### 18\n\nQuestion: Another one?\nAnswer: 2 + 3 = 5\n#### 5"),
    ("R", "integer", "18", "The answer is 18.\n\nQ: And now?\nA: The answer is 4."),
    ("R", "integer", "18", "Answer: 18<|im_end|>\n<|im_start|>user\nAnswer: 4"),
    ("R", "fraction", "5/6", "So it is $\\boxed{\\frac{5}{6}}$.\nAnswer: 5/6"),
    ("R", "fraction", "3/4", "So it is $\\boxed{\\dfrac34}$.\nAnswer: 3/4"),
    ("R", "expression", "3\\sqrt{13}", "\\boxed{\\sqrt{117}}\nAnswer: 3\\sqrt{13}"),
    ("R", "text", "even", "It is \\boxed{\\text{even}}.\nAnswer: even"),
    ("R", "collection", "{1, -2}", "Hence \\boxed{1} and \\boxed{-2}."),
    ("R", "number bare_number", "5", "3 + 2 = 5\n\nTim has 5 pens."),
    ("R", "number bare_number", "72", "So, the answer is \\boxed{72\\text{ clips}}."),
    ("R", "number bare_number", "29", "The total is $29.00.\nAnswer: $29.00"),
    ("W", "number bare_number", "5", "The answer is 5 or 6."),
    ("W", "integer", "18", "Answer: 17\n\nQuestion: Another one?\nAnswer: 18"),
    ("W", "fraction", "5/6", "\\boxed{\\frac{6}{5}}\nAnswer: 6/5"),
    ("?", "fraction", "5/6", "\\boxed{\\frac{5}{6}}\nAnswer: 6/5"),
    ("?", "integer", "5", "<answer>5</answer> or <answer>6</answer>"),
    ("?", "integer", "5", "<answer>5"),
    ("?", "integer", "5", "<answer>5</answer>\n\\boxed{6}"),
    ("?", "integer", "7", "Question 1: how many? Answer: 7\nQuestion 2: how many left? Answer: 3"),
    ("?", "integer", "7", "\\boxed{7} or \\boxed{8}"),
    ("?", "integer", "5", "Answer:\n\nWe add 3 and 2 first.\n\nThen 5."),
    ("?", "number bare_number", "7", "She buys 7.\nThen she eats 3 of the 7 pens."),
    ("?", "number bare_number", "5", "3 + 2 = 5\n\nBut is it 5?"),
    ("?", "number bare_number", "5", "He had 3.\nHe now needs about 5 pens."),
)
"""Whole replies: expected verdict, answer type and reading, gold, reply."""
