"""Figures of a server for Prometheus, in a registry of its own: requests, queue, tokens, latency, abstentions."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from aot.run_records import ChatUsage

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """What `/metrics` tells; labels are routes, statuses and reasons, never text of a request."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("aot_requests", "Requests by route and status.", ["route", "status"],
                                registry=self.registry)  # fmt: skip
        self.open = Gauge("aot_open_requests", "Requests that are read or answered now.", registry=self.registry)
        self.queue = Gauge("aot_queue_length", "Requests that wait for the model.", registry=self.registry)
        self.tokens = Counter("aot_tokens", "Tokens by direction: in, cached, out.", ["direction"],
                              registry=self.registry)  # fmt: skip
        self.latency = Histogram("aot_request_seconds", "From the first byte of a request to its last answer byte.",
                                 ["route"], buckets=BUCKETS_S, registry=self.registry)  # fmt: skip
        self.routed = Counter("aot_routed", "Answers of the cascade by reason, and by why the big model gave nothing.",
                              ["reason", "fallback"], registry=self.registry)  # fmt: skip
        self.audits = Counter("aot_audits", "Local answers compared with the big model's.", ["agreed"],
                              registry=self.registry)  # fmt: skip
        self.waited = Histogram("aot_queue_seconds", "How long requests waited for the model.", buckets=BUCKETS_S,
                                registry=self.registry)  # fmt: skip
        self.batch = Histogram("aot_batch_requests", "Requests that were answered together.",
                               buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=self.registry)  # fmt: skip
        self.abstentions = Counter("aot_abstentions", "Answers without an answer, by reason.", ["reason"],
                                   registry=self.registry)  # fmt: skip
        self.escalations = Counter("aot_escalations", "Answers that a bigger model gave.", registry=self.registry)

    def count_usage(self, usage: ChatUsage) -> None:
        """Add the tokens of one reply."""
        self.tokens.labels("in").inc(usage.prompt_tokens)
        self.tokens.labels("cached").inc(usage.cached_prompt_tokens)
        self.tokens.labels("out").inc(usage.completion_tokens)

    def page(self) -> bytes:
        """In the text format of Prometheus."""
        return generate_latest(self.registry)
