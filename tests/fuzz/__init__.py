"""A fuzzer without instrumentation: damaged artifacts, configs and user states, and odd requests, random by seed.

Every input must lead to an answer that keeps the contract, or to an error of `lsif_sdk.errors` that says what is wrong.
Anything else is a finding: another exception, a warning, a crash, or unbounded memory or time. CONTRIBUTING.md,
"Fuzzing", says how to run it.
"""
