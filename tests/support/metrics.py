"""Reading a receiver's metrics as Prometheus does."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.receiver_process import ReceiverProcess


class Scrape:
    """What one scrape returned."""

    def __init__(self, text: str) -> None:
        self.families = {one.name: one for one in text_string_to_metric_families(text)}
        self.samples = [sample for one in self.families.values() for sample in one.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """The value with exactly these labels; None where there is none."""
        found = [one.value for one in self.samples if one.name == name and one.labels == labels]
        return found[0] if found else None

    def total(self, name: str, **labels: str) -> float:
        """The sum over all that has these labels, whatever others it has."""
        return sum(
            one.value
            for one in self.samples
            if one.name == name and labels.items() <= one.labels.items()
        )


def ask(receiver: ReceiverProcess, authorization: bytes | None = None) -> httpx.Response:
    """Ask for the metrics, with the header as it is given."""
    headers = {} if authorization is None else {b"Authorization": authorization}
    return httpx.get(f"{receiver.url}/metrics", headers=headers, trust_env=False)


def scrape(receiver: ReceiverProcess) -> Scrape:
    """What the metrics are now."""
    answer = ask(receiver)
    assert answer.status_code == 200, answer.text
    return Scrape(answer.text)
