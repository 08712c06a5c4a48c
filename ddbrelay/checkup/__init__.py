"""What `ddbrelay doctor` looks at: one module an area, asking apart from judging."""
