"""Links by an assistant model: what it is asked, what it answers, and what becomes of that."""
