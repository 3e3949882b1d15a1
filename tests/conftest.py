"""What every test starts with."""

import signal

for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    signal.signal(number, handler)  # nohup and background jobs ignore them, and child processes would inherit that
