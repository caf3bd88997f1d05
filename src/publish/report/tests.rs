//! Every state of a report as people see it, and sizes that must hold whatever a report holds.
