"""What the watch keeps on disk: its state, which stays small however long it watches, and alarms."""

from pydantic import Field

from aot.records import Record
from aot.served_records import Alarm, WatchFeature, WatchRun

STATE_VERSION = 1


class Suspicion(Record):
    """A canary that turned wrong, and the money that is bet on its staying so."""

    canary: str
    log: float
    wrong: int
    """Times in a row."""


class Bets(Record):
    """Gamblers against one claim (aot.serving.cascade.watch)."""

    n: int = 0
    """Items that they have bet on."""
    runs: tuple[WatchRun, ...] = ()
    starts: dict[int, float] = Field(default_factory=dict)
    """When each gambler began, by the number of its item; seconds since 1970."""


class LostState(Record):
    """Bets on canaries that were right at export."""

    flips: int = 0
    """Times that one turned wrong."""
    wrong: int = 0
    settled: float | None = None
    """Log of what is left of the bets on canaries that were right again; None before the first."""
    suspicions: tuple[Suspicion, ...] = ()
    bets: Bets = Bets()


class MeanState(Record):
    """Bets on a mean below its promise."""

    total: float = 0.0
    bets: Bets = Bets()


class SignState(Record):
    """One sign that needs no label: what it was in the reference of each mode, and the bets on what it is now."""

    references: dict[str, WatchFeature] = Field(default_factory=dict)
    counts: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    first: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Values of modes without a reference, until there are enough to be one."""
    bets: Bets = Bets()


class LogPlace(Record):
    """How far a log was read."""

    path: str
    offset: int
    head_sha256: str
    """Of its first bytes, by which another file of the same name is known."""
    head_bytes: int


class CanaryMemory(Record):
    """What is remembered of one canary."""

    asks: int = 0
    wrong: int = 0
    is_wrong: bool = False
    """When it was last asked."""
    right_s: float | None = None
    """When it was last right."""
    since_s: float | None = None
    """Since when it has been wrong; None while it is right."""


class Period(Record):
    """A stretch of the timeline."""

    start_s: float
    rows: int = 0
    sums: dict[str, float] = Field(default_factory=dict)
    squares: dict[str, float] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    """Of each sign: rows that have it, and their sum and sum of squares; of canaries too, as `canaries_lost`."""
    wealth: dict[str, float] = Field(default_factory=dict)
    """Of each test: the log of its wealth at the end."""


class WatchFile(Record):
    """Everything that one look hands to the next."""

    version: int = STATE_VERSION
    contract_digest: str
    alarm_rate: float
    looks: int = 0
    read: int = 0
    """Rows, used or not."""
    used: int = 0
    logs: tuple[LogPlace, ...] = ()
    recent: tuple[str, ...] = ()
    """Digests of the ids that were read last."""
    last_s: float | None = None
    odd: dict[str, int] = Field(default_factory=dict)
    """Rows that were not used, or lack something, by reason."""
    examples: dict[str, str] = Field(default_factory=dict)
    """The first of each reason."""
    digests: dict[str, int] = Field(default_factory=dict)
    """Rows by the digest of the contract that answered."""
    signs: dict[str, SignState] = Field(default_factory=dict)
    unlabelled_n: int = 0
    """Answers with a confidence since the last one with a label."""
    unlabelled_sum: float = 0.0
    """Of their confidences."""
    canaries: dict[str, CanaryMemory] = Field(default_factory=dict)
    lost: LostState = LostState()
    accuracy: MeanState = MeanState()
    """Of canaries, each when it was asked first."""
    labelled: MeanState = MeanState()
    """Of labelled answers of the traffic."""
    period_s: float = 3600.0
    periods: tuple[Period, ...] = ()
    alarms: tuple[Alarm, ...] = ()
