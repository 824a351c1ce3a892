"""The event of a placeholder that turns up where its credential has no business.

OCSF 1.8 class 2004 Detection Finding. The placeholder itself is not in it: a reader of the log need
not learn which texts the agent has.
"""

from __future__ import annotations

from .ocsf import HIGH
from .record import event, finding_object
from .text import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nemoclaw_hookspecs import EgressRequest

    from .record import Context, Record


def credential_elsewhere(
    context: Context,
    request: EgressRequest,
    *,
    credential: str,
    place: str,
    time: int | None = None,
) -> Record:
    """A request was refused that held the placeholder of a credential in the wrong place.

    :param credential: its name.
    :param place: in words: ``the query``.
    """
    where = f"{request.host}:{request.port}"
    method = request.http.method if request.http is not None else ""
    detail = f"{method} {where} held it in {place}, where the policy does not put it"
    record = event(
        context,
        (2004, 1, "Create"),
        code="credential-elsewhere",
        severity=HIGH,
        message=f"the placeholder of the credential {credential} was sent to the wrong place: "
        f"{detail}",
        time=time,
    )
    return record | {
        "action_id": 2,
        "disposition_id": 2,
        "status_id": 1,
        "is_alert": True,
        "finding_info": finding_object(
            "credential",
            (credential, request.host, str(request.port), place),
            "a credential's placeholder was sent to the wrong place",
            detail,
        ),
        "unmapped": {
            "credential": bounded(credential),
            "host": bounded(request.host),
            "port": request.port,
            "place": bounded(place),
        },
    }
