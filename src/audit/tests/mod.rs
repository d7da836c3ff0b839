//! Tests of the trail as a whole.

mod bits;
mod crash;
mod extent;
mod faults;
mod find;
mod measure;
mod records;
mod simulated;
mod support;
mod threads;
mod torn;
