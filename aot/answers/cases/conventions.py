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
R | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | [[1, 2], [3, 4]]
R | \begin{pmatrix} 1/2 & 1 \\ 3 & 4 \end{pmatrix} | \frac{1}{2}\begin{pmatrix} 1 & 2 \\ 6 & 8 \end{pmatrix}
W | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | [[1, 3], [2, 4]]
W | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | -\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
W | \begin{pmatrix} 1/2 & 1 \\ 3 & 4 \end{pmatrix} | \frac{1}{2}\begin{pmatrix} 1 & 6 \\ 2 & 8 \end{pmatrix}
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
R | 3+4i | 3 + 4 \cdot i
W | 3+4i | 3 - 4 \cdot i
R | \frac{1}{3} | 0.\overline{3}
R | \frac{1}{3} | 0.333...
R | \frac{7}{6} | 1.1666\ldots
? | \pi | 3.14...
W | \frac{1}{3} | 0.333
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
R | 1/11 | 0.0909…
? | 3.14 | 3.14...
W | 0.333 | 0.333...
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
R | even | $\text{even}$.
R | no solution | \emptyset
W | no solution | \infty
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
R | 42 | **42**.
R | 42 | The total cost is **$42**.
R | 42 | 6 x 7 = 42 eggs
R | 42 | She has 42 eggs left over.
R | 42 | \(42\) dollars.
R | 42 | It lasts 42 days.
W | 5 | 5 or 6
? | -42 | x - 42
? | 42 | 42 - x
? | 42 | Answer - 42
? | 42 | x/42
? | 1 | y^2 + 1
? | 42 | 42²
? | 42 | 42 tens
W | 42 | 42 dozens
? | 42 | exceeds 42
? | 42 | probably 42
? | 42 | a loss of 42
? | 42 | a fifth of 42
? | 42 | the square of 42
? | 42 | sum of the first 42 numbers
? | 0.5 | 0.5%
? | 2/5 | 40%
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
R | 12\pi\text{ cm}^2 | 12\pi
R | 12\pi | 12 \pi \mathrm{~cm}^{2}
R | 12\pi | 12\pi\text{ square units}
W | 12\pi\text{ cm}^2 | 12\pi\text{ m}^2
W | x^2+1 | y^2+1
R | 3:4 | 3 : 4
R | 3:4 | 3 \text{ to } 4
R | 3:4 | \frac{3}{4}
W | 3:4 | 4:3
? | 12:30 | 6:15
? | 90^\circ | 90'
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
R | (2,5) | \{x \mid 2 < x < 5\}
R | [2,5) | \{x \in \mathbb{R} : 2 \le x < 5\}
R | (2,5) | ]2,5[
R | (-\infty,-1]\cup[1,\infty) | |x| \ge 1
R | (-\infty,3)\cup(3,\infty) | \mathbb{R} \setminus \{3\}
R | (-\infty,\infty) | \text{all real numbers}
R | (1,-2,3) | x = 1, z = 3, y = -2
W | (2,5) | \{x \mid 2 \le x < 5\}
W | (2,5) | ]2,5]
W | (2,5) | x > 2 \text{ or } x < 5
W | (-\infty,-1]\cup[1,\infty) | |x| > 1
W | (1,-2,3) | y = 1, x = -2, z = 3
? | (-\infty,-1]\cup[1,\infty) | x \le -1 \text{ and } x \ge 1
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
R | (2,5) | x > 2 \text{ and } x < 5
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
    ("R", "number bare_number", "42", "Answer: \\(\\boxed{42}\\) dollars."),
    ("R", "number bare_number", "42", "*Answer*: 42"),
    ("R", "number bare_number", "42", "### Final Answer:\n\nThe total cost is **$42**."),
    ("R", "number bare_number", "42", "The answer is 42.\n\nExample 2:\nTom has 5 pens. The answer is 5."),
    ("R", "number bare_number", "42", "If she had 6, the answer is 42."),
    ("R", "number bare_number", "42", "Wait, it is 6 * 7.\nAnswer: 42"),
    ("R", "number bare_number", "42", "Answer: 42\nWait, let me check: 6 * 7 = 42."),
    ("R", "text", "even", "The answer is $\\text{even}$."),
    ("?", "number bare_number", "42", "Answer: 42\nWait, it is 6."),
    ("?", "number bare_number", "42", "The answer is 42.\nOops, that should be 43."),
    ("?", "number bare_number", "42", "\\boxed{42}\nHold on, that is not right."),
    ("?", "number bare_number", "6", "Answer: 5\nWait, it is 6.\nAnswer: 6"),
    ("?", "number bare_number", "42", "If the answer is 42, then Tom lied."),
    ("?", "number bare_number", "42", "6 * 7 = 42\nSo far Tom has 42 eggs."),
    ("?", "number bare_number", "42", "Answer: 43 - \\boxed{42}"),
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
