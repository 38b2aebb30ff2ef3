"""BuildKit's wire protocol: gRPC over HTTP/2 on a Docker connection, both ways.

Imported when a client asks for it, by `operations.buildkit` or the HTTP/2 preface (`connection`), never before.
"""
