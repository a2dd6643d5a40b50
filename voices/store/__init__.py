"""The store: profiles, encrypted blobs, consents, challenges, and the vault of their data keys."""
