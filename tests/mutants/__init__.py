"""`make mutants`: which small faults in the core do the tests miss?

Own code, because no well-kept tool fits (looked at on 2026-11-30). mutmut 3.8 forks and knows which tests to run, but
changes nothing outside of functions, where the figures and tables of policy stand, nor functions with decorators, and
starts the session's servers for every mutant. cosmic-ray 8.7 changes everything, but starts the whole test command for
every mutant, with one command for all of them. mutatest has had no release since 2022 and needs coverage below 6.
"""
