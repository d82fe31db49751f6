"""What was paid for, on disk: the replies, the failures, and which process is asking what."""
