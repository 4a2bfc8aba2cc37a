"""Who may do what in a stationer's office: ``python -m examples.rbac_office``."""
