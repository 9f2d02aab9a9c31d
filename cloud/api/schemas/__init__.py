"""What the HTTP API takes and gives, one module per noun."""
