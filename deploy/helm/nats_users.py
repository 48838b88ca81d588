"""The accounts and users of the NATS servers of the chart antiphon-stack, made from the code.

python -m deploy.helm.nats_users > deploy/helm/antiphon-stack/files/nats/users.conf
python -m deploy.helm.nats_users --check deploy/helm/antiphon-stack/files/nats/users.conf
"""

import sys

from tools.docs.generated import print_or_check

from antiphon.chassis.nats_config import accounts, as_config, variable_of
from antiphon.chassis.nats_users import users


def render() -> str:
    """Return what `python -m antiphon.persistence nats-users` prints."""
    return as_config(accounts(users()), variable_of)


if __name__ == "__main__":
    sys.exit(print_or_check("deploy.helm.nats_users", render(), "nats_users.py of the chassis"))
