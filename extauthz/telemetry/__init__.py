"""What is told to operators: metrics and logs. It reads decisions and is not sprinkled through them."""
