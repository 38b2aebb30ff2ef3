"""BuildKit's messages. The `.proto` files are ours, the `_pb2` modules are generated (docs/contributing.md says how).

They hold the fields that this service reads or answers, by the numbers they have on the wire; protobuf passes over what
is not declared. LLB definitions are opaque `bytes`, which looks the same on the wire as a message.
"""
