"""Settings schema, shipped profiles and agents. Imports no other room."""
