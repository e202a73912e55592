"""What the provider knows: passages, questions about them, and ways to search."""
