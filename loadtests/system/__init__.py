"""The system under test, once: processes, replicas, their front, stores, wires between them, a stage for faults."""
