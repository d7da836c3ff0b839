"""Sends NDJSON bodies as they are; schemathesis knows no lines."""

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b"null"
