"""Tests of service.content."""
