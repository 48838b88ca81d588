"""The names of tenants: at most 63 of a-z, 0-9 and -, so that a name can be a token of a subject.

`default` is the tenant of a platform for one customer.
"""

import re

TENANT_PATTERN = "^[a-z0-9][a-z0-9-]{0,62}$"
DEFAULT_TENANT = "default"

_tenant = re.compile(TENANT_PATTERN)


def is_tenant(name: object) -> bool:
    """Return whether this is the name of a tenant."""
    return isinstance(name, str) and _tenant.fullmatch(name) is not None
