"""Cases for dates, clock times, durations and time spans: what a careful marker says of each answer.

A line is `verdict | gold | answer`: R right, W wrong, ? cannot be told. Knows nothing of the code that is judged.
"""

TABLE = r"""
# date
R | 2024-05-13 | Monday, 13/05/2024
? | 2024-05-13 | Tuesday, 13/05/2024
R | 2024-01-05 | 2024-01-05
R | 2024-01-05 | 2024-1-5
R | 2024-01-05 | 2024/01/05
R | 2024-01-05 | 5 January 2024
R | 2024-01-05 | January 5, 2024
R | 2024-01-05 | Jan 5 2024
R | 2024-01-05 | Jan. 5, 2024
R | 2024-01-05 | 5th of January 2024
R | 2024-01-05 | January 5th, 2024
R | 2024-01-05 | Friday, January 5, 2024
R | 2024-01-05 | 5 Jan 2024.
R | 2024-01-15 | 15/01/2024
R | 2024-01-15 | 01/15/2024
R | 2024-05-05 | 05/05/2024
R | 05/01/2024 | 05/01/2024
R | 05/01/2024 | 5/1/2024
R | 2024-02-29 | February 29, 2024
R | January 5, 2024 | 2024-01-05
R | January 5 | 5 January
W | 2024-01-05 | 2024-01-06
W | 2024-01-05 | 2024-05-01
W | 2024-01-05 | 2023-01-05
W | 2024-01-05 | January 6, 2024
W | 2024-01-05 | 5 June 2024
W | 05/01/2024 | 06/01/2024
W | January 5 | January 6
? | 2024-01-05 | 05/01/2024
? | 2024-01-05 | 01/05/2024
? | 05/01/2024 | 2024-01-05
? | 2024-01-05 | January 5
? | 2024-01-05 | 5/1/24
? | 2024-01-05 | 2024-02-30
? | 2024-01-05 | Monday, January 5, 2024
? | 2024-01-05 | 2024-01-05 or 2024-01-06
? | 2024-01-05 | tomorrow
? | 2024-01-05 | January 2024
# clock
R | 12:30 | 12:30
R | 12:30 | 12.30
R | 12:30 | 12:30 pm
R | 12:30 | 12:30 p.m.
R | 12:30 | 12:30:00
R | 00:30 | 12:30 am
R | 00:30 | 0:30
R | 15:45 | 3:45 pm
R | 15:45 | 3:45PM
R | 3:45 pm | 15:45
R | 3:45 pm | 3:45 PM
R | 3:45 | 03:45
R | 3:45 | 3:45 am
R | 15:00 | 3 pm
R | 12:00 | noon
R | 00:00 | midnight
R | 12:30 | half past twelve
W | 12:30 | 12:45
W | 12:30 | 12:03
W | 12:30 | 13:30
W | 12:30 | 11:30 am
W | 12:30 | 12:30:15
W | 3:45 pm | 3:45 am
W | 3:45 pm | 3:54 pm
W | 00:30 | 12:30 pm
W | 15:45 | 15:54
? | 12:00 | midnight
? | 3:45 pm | 3:45
? | 15:45 | 3:45
? | 3:45 | 3:45 pm
? | 12:30 | 12:30 am
? | 12:30 | 25:30
? | 12:30 | 12:60
? | 12:30 | 1230
? | 12:30 | 12:30 or 12:45
? | 12:30 | 13:30 am
# duration
R | 90 minutes | 1 hour, 30 minutes
? | 8 hours | 3 hours and 5 hours
R | 3 days | 3 days
R | 3 days | three days
R | 3 days | 72 hours
R | 90 minutes | 1 h 30 min
R | 90 minutes | 1 hour 30 minutes
R | 90 minutes | 1 hour and 30 minutes
R | 90 minutes | 1.5 hours
R | 90 minutes | 1:30:00
R | 90 minutes | 1h30m
R | 90 minutes | 1 1/2 hours
R | 90 minutes | 5400 s
R | 90 minutes | an hour and a half
R | 1:30:00 | 90 min
R | 30 minutes | half an hour
R | 1 week | 7 days
R | 2 years | 24 months
R | 1:30 | 1:30
R | 1:30 | 01:30
R | 1 day, 02:00:00 | 26 hours
R | 45 seconds | 45 sec
R | 1 day | a day
W | 3 days | 3 hours
W | 3 days | 3 weeks
W | 3 days | 2 days
W | 90 minutes | 1 h 3 min
W | 90 minutes | 1.3 hours
W | 90 minutes | 90 seconds
W | 1:30:00 | 1:30:01
W | 1:30 | 1:31
W | 2 years | 2 months
W | 30 minutes | half a day
? | 90 minutes | 90
? | 90 minutes | 1:30
? | 90 minutes | 1 or 2 hours
? | 90 minutes | 90 apples
? | 90 minutes | a while
# span
R | 2.0s-4.0s | 2.0s-4.0s
R | 2.0s-4.0s | 2 s - 4 s
R | 2.0s-4.0s | 3.0s-4.0s
W | 2.0s-4.0s | 3.1s-4.0s
W | 2.0s-4.0s | 5s-6s
? | 2.0s-4.0s | 4.0s-2.0s
? | 2.0s-4.0s | 3s
"""
