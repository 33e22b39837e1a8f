//! Tests of the real executables, over real sockets, on real files.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[cfg(feature = "ablation")]
mod ablation;
mod admin;
mod admin_metrics;
mod atomic;
mod audit;
mod burst;
mod causes;
mod cgi;
mod client;
mod components;
mod crowd;
mod dashboard;
mod demo;
mod directory;
mod documents;
mod environment;
mod export;
mod files;
mod fresh;
#[cfg(feature = "holes")]
mod holes;
mod host_names;
mod hostile;
mod incoming;
mod ipc;
#[cfg(feature = "demo")]
mod lab;
#[cfg(feature = "demo")]
mod lab_page;
mod large_bodies;
mod large_files;
mod layers;
mod lockdown;
mod logging;
mod new;
mod output;
mod page;
mod plain;
mod pools;
mod prefix;
mod protocol;
mod proxies;
mod quota;
mod rate;
mod records;
mod refusals;
mod reload;
mod sessions;
mod slow;
mod standard_library;
mod start;
mod support;
mod swap;
mod tables;
mod tutorial;
mod uploads;
mod validators;
