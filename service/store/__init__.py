"""All durable state: one SQLite database. The only floor that knows SQL.

Functions here are small and named by what they answer. Reads may be called from the event loop (WAL readers never
wait); whatever writes stands inside `with database.write():`, in a thread or a short-lived process, because another
process may hold the lock.
"""
