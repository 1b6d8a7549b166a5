"""What was answered and what was charged, held against each other."""

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

from schemathesis import Case

from gateway import Gateway


@dataclass
class Answers:
    """The answers of a module's run: a run without any proves nothing."""

    statuses: Counter[str] = field(default_factory=Counter)

    def to(self, case: Case, gateway: Gateway) -> None:
        """Sends a request, checks its answer by the document, and counts it."""
        response = case.call_and_validate(base_url=gateway.base_url, headers={"Authorization": f"Bearer {gateway.keys['dialer']}"})
        self.statuses[str(response.status_code)] += 1
        assert "x-gateway-decision" in response.headers, "not the gateway's answer"


def assert_metered(gateway: Gateway, budget_usd: str) -> Decimal:
    """Asserts that all that the sandbox charged is in the ledger, and no more than the budget; returns what the ledger posted.

    What was assumed comes on top: the sandbox bills no check of a number that a refresh names and nobody has, and the gateway cannot know that.
    """
    charged, posted = Decimal(gateway.charges()["total_usd"]), gateway.posted_usd()
    assert charged == posted.total() - posted["assumed"], f"{charged} charged, {posted} posted: {gateway.charges()}"
    assert posted.total() <= Decimal(budget_usd), f"{posted} posted of {budget_usd}"
    return posted.total()
