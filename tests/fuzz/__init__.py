"""A fuzzer without instruments: damaged artifacts, configs and user states, and odd requests, made at random by seed.

Every input has to end in an answer that keeps the contract or in an error of `lsif_sdk.errors` that says what is wrong.
Anything else is a finding: another exception, a warning, a crash, memory or time without bound. CONTRIBUTING.md,
"Fuzzing", says how to run it.
"""
