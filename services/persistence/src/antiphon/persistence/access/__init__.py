"""The roles of Postgres: group roles, logins, tenants that read directly, and what `run` needs of them."""
