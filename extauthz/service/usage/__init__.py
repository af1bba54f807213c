"""What is written behind the checks: usage, rejections, times of use, webhooks."""
