"""Who may do what in Postgres: group roles and their rights, logins, and tenants that read directly."""
