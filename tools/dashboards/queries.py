"""The PromQL that panels share; `HERE` are the matchers of the variables of a filtered dashboard."""

HERE = 'job=~"$job", instance=~"$instance"'
INTERVAL = "[$__rate_interval]"


def rate(counter: str, by: str = "", *, also: str = "", minute: bool = False) -> str:
    """Return how much a counter grows in a second or a minute, by labels, with matchers besides HERE."""
    matchers = f"{HERE}, {also}" if also else HERE
    grouped = f"sum by ({by})" if by else "sum"
    return f"{'60 * ' if minute else ''}{grouped} (rate({counter}{{{matchers}}}{INTERVAL}))"


def quantile(part: float, histogram: str, by: str = "") -> str:
    """Return the value that this part of a histogram is below, by labels."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({part}, sum by ({labels}) (rate({histogram}_bucket{{{HERE}}}{INTERVAL})))"


def faults(which: str, matchers: str = "") -> str:
    """Return the part of the calls of 15 minutes that ended by a fault, by whose it was."""
    ended = "antiphon_calls_ended_total"
    both = f"{matchers}, {which}" if matchers else which
    everything = f"sum(rate({ended}{{{matchers}}}[15m]))"
    return f"sum by (fault) (rate({ended}{{{both}}}[15m])) / on () group_left () {everything}"
