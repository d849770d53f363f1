"""What is done about a reading: rules, checked once, then a pure decision each tick."""
