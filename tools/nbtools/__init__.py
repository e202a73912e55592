"""What the notebook tools share: sources, execution, a browser."""
