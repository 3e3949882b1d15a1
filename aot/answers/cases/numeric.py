"""Cases for numbers, amounts and mathematics: what a careful marker says of each answer.

A line is `verdict | gold | answer`: R right, W wrong, ? cannot be told. Knows nothing of the code that is judged.
"""

TABLE = r"""
# integer
R | 10000 | 10\,000
? | 5 | --five
? | 12 | \text{1}2
? | 34 | 3\;4
? | 12 | 1\left2
R | 36 | 36
R | 36 | 36.0
R | 36 | 36.
R | 36 | +36
R | 36 | 036
R | 36 | thirty-six
R | 36 | Thirty six.
R | 105 | one hundred and five
R | 1200000 | one million two hundred thousand
R | 1250 | one thousand, two hundred and fifty
R | 1234 | 1,234
R | 1234567 | 1,234,567
R | 1,234 | 1234
R | 1234567 | $1{,}234{,}567$
R | -7 | −7
R | -7 | minus seven
R | -7 | negative 7
R | -7 | - 7
R | 0 | zero
R | 0 | -0
R | 2 | twice
R | 3 | 3 times
R | 72 | $72$
R | 72 | \(72\)
R | 72 | \boxed{72}
R | 72 | \text{72}
R | 72 | x = 72
R | 72 | **72**
R | 1000 | 1e3
R | 123456789012345678901 | 123456789012345678901
W | 123456789012345678901 | 123456789012345678902
W | 9007199254740993 | 9007199254740992
W | 36 | 37
W | 36 | 3.6
W | 36 | -36
W | 36 | 360
W | 36 | 36.5
W | 1234 | 1.234
W | 3 | thirteen
W | 105 | one hundred and fifty
W | 100 | one thousand
W | 7 | − 7
W | 7 | - 7
? | 36 | 36 or 40
? | 36 | 36, 40
? | 36 | between 36 and 40
? | 36 | 36-40
? | 36 | about 36
? | 36 | 36 apples
? | 36 | 36%
? | 36 | $36
? | 36 | 12:36
? | 36 | nan
? | 36 | infinity
? | 36 | five five
? | 36 | print(36)
? | 4 | 2²
? | 1234 | 1,23,4
# decimal
? | 0.125 | 0.1254
? | 0.125 | 0.1246
? | 2.375 | 2.37549
? | 1.000 | 1.0004
R | 0.5 | 0.5
R | 0.5 | .5
R | 0.5 | 0.50
R | 0.5 | 1/2
R | 2.50 | 2.5
R | 1234.5 | 1,234.5
R | 3.0 | 3
R | 333 | 0.333e3
? | 0.3333 | 0.333333
? | 0.333 | 1/3
? | 3.142 | 3.14159
R | -0.25 | −0.25
R | 0.75 | \frac{3}{4}
R | 2.5 | two and a half
W | 0.5 | 0.05
W | 0.5 | 5
W | 0.5 | 0.6
W | 3.14159 | 3.14
W | 3.142 | 3.141
W | 0.333 | 0.3
W | 1.234 | 1,234
W | 3 | 3.4
? | 0.5 | 0,5
? | 0.5 | 0.5.1
? | 0.5 | ~0.5
? | 3.14 | 3.14159
? | 0.5 | 0.54
# fraction
? | 1/23 | \frac{1}{2}3
? | 0.4 | \frac{1}{2}.5
? | 5/3 | \frac{1 2}{3}
? | 1/23 | ½3
R | 5/2 | 2 ½
R | 5/2 | 2\,\frac{1}{2}
R | -5/2 | minus two and a half
R | 1/2 | 1/2
R | 1/2 | 0.5
R | 1/2 | 2/4
R | 1/2 | \frac{1}{2}
R | 1/2 | \dfrac{1}{2}
R | 1/2 | \frac12
R | 1/2 | $\frac{1}{2}$
R | 1/2 | ½
R | 1/2 | one half
R | 3/4 | three quarters
R | 2/3 | two-thirds
R | 3/2 | 1 1/2
R | 3/2 | 1\frac{1}{2}
R | 3/2 | 1½
R | 3/2 | 1 and 1/2
R | -1/2 | -\frac{1}{2}
R | -1/2 | \frac{-1}{2}
R | -3/2 | -1 1/2
R | 4 | 8/2
R | 1/2 | 1 / 2
W | 1/2 | 2/1
W | 1/3 | 0.333
W | 3/2 | 11/2
W | 1/2 | 1/3
W | -1/2 | 1/2
W | -3/2 | -1/2
? | 1/2 | 1/0
? | 1/2 | 1/2/3
? | 1/2 | 1:2
? | 1/2 | \frac{1}{
# number
R | 36 | 36.0
R | 0.5 | 1/2
R | 1/2 | .5
R | 333 | 0.333e3
R | 333 | 3.33E+2
R | 333 | 3.33 \times 10^2
R | 6000000 | 6 x 10^6
R | 0.003 | 3e-3
R | 2500000 | 2.5 million
R | 15 | fifteen
R | 60 | 5 dozen
R | 18 | 18.00
R | 0.25 | 1/4
W | 36 | 63
W | 333 | 0.333e2
W | 0.333 | 0.333e3
W | 1234 | 1.234
W | 50 | 0.5
? | 36 | 36 or 40
? | 36 | 36 = 40
? | 36 | 30 + 6
? | 36 | 36 cm
? | 36 | 0x24
? | 36 | 9^9^9^9^9
? | 36 | 10000000!
? | 36 | __import__('os').system('true')
# percent
R | 50% | 50%
R | 50% | 50 percent
R | 50% | 50 per cent
R | 50% | 50\%
R | 50% | $50\%$
R | 50% | 50
R | 50 | 50%
R | 50% | fifty percent
R | 12.5% | 12.50 %
R | 0.5% | 0.5%
R | 33 1/3% | 33 1/3 %
R | -3% | −3%
? | 50% | 0.5
W | 50% | 5%
? | 50% | 1/2
W | 50% | 500%
W | 0.5% | 50%
W | 3% | -3%
? | 50% | half
? | 50% | 50 or 60%
? | 50% | 50% off 20%
? | 50% | $50
# money
? | 18 | ¥18
R | 18 | 18.00
? | $0.05 | $5¢
R | $5 | $5
R | $5 | $5.00
R | $5 | 5 dollars
R | $5 | five dollars
R | $5 | 5 USD
R | $5 | USD 5
R | $5 | US$5
R | $1,234.50 | $1234.5
R | $1,234.50 | \$1,234.50
R | $1,234.50 | 1234.5 dollars
R | $1,234.50 | $\$1{,}234.50$
R | $0.50 | 50 cents
R | $0.50 | 50¢
R | -$5 | $-5
R | -$5 | −$5
R | €20 | 20 euros
R | €20 | 20€
R | £3.20 | 3.20 pounds
R | $2,500,000 | $2.5 million
? | 18 | $18
W | $5 | €5
W | $5 | 5 euros
W | $5 | £5
W | $5 | $50
W | $5 | 5 cents
W | $5 | -$5
W | $5 | $5.01
W | $1,234 | $1.234
W | 18 | $81
? | $5 | 5
? | $5 | $5 or $6
? | $5 | 5 apples
? | $5 | $$
? | $5 | free
# quantity
R | 2 tons | 2 tons
R | 2000 kg | 2 tonnes
? | 2 tons | 2000 kg
? | 1000 kg | 1 ton
? | 30 m | 10 m, 20 m
? | 7 apples | 3 apples and 4 apples
? | 66 inches | 6 in 5 ft
? | 66 inches | -5 ft 6 in
R | 5 cm | 5\,\text{cm}
R | 5 cm | 5 cm
R | 5 cm | 5cm
R | 5 cm | 5 centimeters
R | 5 cm | 5 centimetres
R | 5 cm | 50 mm
R | 5 cm | 0.05 m
R | 5 cm | 5\text{ cm}
R | 5 cm | five cm
R | 3 km | 3000 m
R | 2 kg | 2000 grams
R | 1.5 h | 90 minutes
R | 1 hour | 60 min
R | 2 ft | 24 inches
R | 3 days | 72 hours
R | 12 m^2 | 12 square meters
R | 12 cm² | 12 cm^2
R | 12 cm² | 0.0012 m²
R | 60 km/h | 60 kilometers per hour
R | 36 km/h | 10 m/s
R | 5 apples | 5 apples
R | 1 apple | one apple
R | 5 boxes | five boxes
R | 5 apples | 5 Apples.
R | 20 °C | 20 degrees Celsius
R | 2 L | 2000 mL
R | 5 ft 6 in | 66 inches
R | 1/2 mile | 0.5 miles
W | 5 cm | 5 m
W | 5 cm | 5 mm
W | 5 cm | 6 cm
W | 5 cm | 5 kg
W | 3 days | 3 hours
W | 5 apples | 5 oranges
W | 5 apples | 6 apples
W | 12 cm² | 12 cm
W | 60 km/h | 60 m/s
W | 20 °C | 20 °F
W | 5 mg | 5 Mg
? | 5 cm | 5
? | 5 cm | cm
? | 5 cm | 5 cm or 6 cm
? | 5 cm | 5 cm 3 kg
# expression
R | \begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1\\1+1\end{pmatrix}
? | 5 | y = 5
W | 5 | y = 6
W | 1/2 | 2^0.5
W | 1/2 | 9**0.5
R | \sqrt{2} | 2^0.5
R | 3 | 9**0.5
R | x\sqrt{x} | x^1.5
W | \frac{x}{2} | x^1.5
W | 0 | 7^5.0
W | 6 | √16
R | 4 | √16
R | 4 | √(16)
R | 3\sqrt{2} | √18
W | 5\sqrt{2} | √25
? | 6 | \sqrt16
R | \sqrt{2} | \sqrt2
W | (2,100) | 2100
R | (2,100) | (2, 100)
W | 1234 | (1,234)
R | 1234 | 1,234
? | 0.36 | 1.2.3
? | 1/23 | \frac{1}{2}3
? | 3/2 | \frac{1}{2}3
? | 0.4 | \frac{1}{2}.5
R | \frac{1}{2} | \frac{1}2
R | x^2+1 | x^2 + 1
R | x^2+1 | 1 + x^2
R | x^2+1 | x**2 + 1
R | x^2+1 | $x^{2}+1$
R | (x+1)^2 | x^2 + 2x + 1
R | 2x | x*2
R | 2x | 2 \cdot x
R | \frac{x}{2} | x/2
R | \frac{\sqrt{2}}{2} | \frac{1}{\sqrt{2}}
R | \sqrt{8} | 2\sqrt{2}
R | 2\sqrt{2} | 2*sqrt(2)
R | 2\pi | 2pi
R | 2\pi | 2π
R | 2\pi | \pi \cdot 2
R | 1/2 | 0.5
R | 1/2 | \frac{1}{2}
? | 5 | x = 5
R | x = 5 | 5
R | x = 5 | x=5
R | x^{10} | x^10
R | \left(x+1\right)(x-1) | x^2-1
R | \sin^2 x + \cos^2 x | 1
R | \log 8 | \log 2^3
R | e^{2x} | e^{x} \cdot e^{x}
R | x \ge 3 | x \geq 3
R | -\frac{1}{2} | -0.5
R | 5! | 120
R | 3\sqrt{5} | \sqrt{45}
R | \frac{1}{x+1} | 1/(x+1)
R | a+b | b+a
R | |x| | |x|
R | 4 + 3i | 3i + 4
W | x^2+1 | x^2-1
W | x^2+1 | x^2
W | x^{10} | x^{11}
W | 2x | 2y
W | 2x | x^2
W | 2\pi | 6.28
W | 1/3 | 0.333333
W | \sqrt{2} | 1.414214
W | \frac{1}{\sqrt{2}} | \frac{1}{2}
W | x \ge 3 | x > 3
W | x \ge 3 | x \le 3
W | x = 5 | y = 5
W | 4 + 3i | 4 - 3i
W | 12 | 1 + 2
W | (x+1)^2 | x^2 + 1
R | \log_2 8 | 3
R | \sqrt[3]{8} | 2
R | y = 2x+1 | 2x+1 = y
R | 6 | 2(3)
W | x | X
W | \pi | 3.141592653589793
W | \begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}2\\1\end{pmatrix}
? | 5 | x + 1 = 5
? | x + y = 5 | 5
? | 5 | 5'
? | 2 | 2_3
? | 12 | 1 2
? | 36 | 36 or 40
? | 50 | 50%
? | 10 | 10 cm
? | x^2 | the square of x
? | 5 | 9^{9^{9^{9}}}
? | 5 | 99999999!
? | 5 | __import__('os').getcwd()
? | 12 | 12:30
? | 5 | x = 5, x = 6
# collection
R | x = 1, 2 | x = 1, x = 2
W | AB=1, CD=2 | CD=1, AB=2
? | x=2, y=1 | 1, 2
? | x=1, y=2 | 2 and 1
W | x=1, x=2 | y=1, y=2
R | x=1, x=2 | x = 1, x = 2
R | x=1, x=2 | 1, 2
? | 5, 6 | y = 5, y = 6
W | A={1,2} | B={1,2}
R | A={1,2} | A = \{2, 1\}
R | A={1,2} | {1, 2}
? | {1,2} | A = {1, 2}
R | x=\frac{1}{2}, y=2 | y = 2, x = 0.5
? | x_1=1, x_2=2 | 2 and 1
W | 1, 2 | [1, 2)
? | 1, 2 | (1, 2)
? | (12, 3) | (1 2, 3)
? | (x, y) | (X, Y)
R | (x, y) | (x,y)
R | {Red, blue} | {BLUE, red}
R | (1, 2) | (1,2)
R | (1, 2) | \left(1, 2\right)
R | (1, 2) | $(1,2)$
R | (1, 2) | (1.0, 4/2)
R | (1, 2, 3) | 1, 2, 3
R | {1, 2, 3} | {3, 1, 2}
R | {1, 2, 3} | \{1,2,3\}
R | {1, 2, 3} | 3, 2, 1
R | {1, 2} | {1, 1, 2}
R | 1, 2 | 1 and 2
? | 1, 2 | x = 1 or x = 2
R | 1, 2, 3 | 1, 2, and 3
R | [0, 1) | [0,1)
R | (0, \infty) | (0, ∞)
R | (-\infty, 2] | (-inf, 2]
R | (0,1) \cup (2,3) | (2,3) ∪ (0,1)
R | [1, 2, 3] | (1, 2, 3)
R | {a, b} | {b, a}
R | {red, blue} | {blue, red}
R | {\sqrt{8}, 1} | {1, 2\sqrt{2}}
R | (\frac{1}{2}, x+1) | (0.5, 1+x)
R | [[1, 2], [3, 4]] | [[1,2],[3,4]]
R | \emptyset | {}
R | {1,234, 5} | {5, 1,234}
W | (1, 2) | (2, 1)
W | (1, 2) | (1, 3)
W | (1, 2) | (1, 2, 3)
W | (1, 2, 3) | (1, 2)
R | x = 1, y = 2 | y = 2, x = 1
W | x = 1, y = 2 | y = 1, x = 2
W | {10,200} | {10200}
R | (100,200,300) | (100, 200, 300)
W | {1, 2, 3} | {1, 2, 4}
W | {1, 2, 3} | {1, 2}
W | [0, 1) | [0, 1]
W | [0, 1) | (0, 1)
W | (0, \infty) | (0, 1)
W | (0,1) \cup (2,3) | (0,1) \cup (2,4)
W | {red, blue} | {red, green}
W | {\sqrt{8}, 1} | {1, \sqrt{2}}
? | [0, 1) | 0, 1
? | 1, 2 | 2, 1
? | (1, 2) | (1, 2) or (3, 4)
? | {1, 2} | {1, 2
"""
