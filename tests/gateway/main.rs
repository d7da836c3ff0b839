//! The gateway as an outsider meets it: the real program, real sockets on the
//! loopback, real files.
//!
//! Everything here goes through what is promised to others: the three planes, the
//! command line, the files of a demo. Ports are the kernel's choice; whatever
//! takes time is polled with a deadline. What a machine lacks (strace, the right
//! to mount) skips its test with a note.

mod certificates;
mod client;
mod harness;
mod history;
mod load;

mod admin;
mod backup;
mod canaries;
mod commands;
mod contract;
mod damage;
mod durability;
mod early;
mod faults;
mod feeds;
mod heads;
mod http2;
mod imports;
mod keys;
mod kills;
mod leaving;
mod limits;
mod operations;
mod operators;
mod places;
mod proxy;
mod register;
mod revoked;
mod rights;
mod serve;
mod sockets;
mod stores;
mod stream;
mod tls;
mod unread;
mod windows;
