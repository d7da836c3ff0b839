"""What schemathesis does not know of the gateway."""

import os

import schemathesis

OWN_ID = os.environ["PESELGATE_ADMIN_TOKEN"].split("_")[2]


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    """NDJSON goes out as it is; schemathesis knows no lines."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b"null"


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """It finds its own token in the list; without that one it would see 401 only."""
    parameters = case.path_parameters or {}
    if parameters.get("id") == OWN_ID:
        parameters["id"] = "aaaaaaaaaa"
