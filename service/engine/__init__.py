"""Docker's verbs, told as stories with rollback. No HTTP, no argv, no wire JSON."""
