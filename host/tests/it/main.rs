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
mod circles;
mod client;
mod components;
mod crowd;
mod dashboard;
mod dashboard_sentences;
mod demo;
mod directory;
mod documents;
mod environment;
mod export;
mod files;
mod fresh;
mod health;
#[cfg(feature = "holes")]
mod holes;
mod host_names;
mod hostile;
mod hostile_registry;
mod incoming;
mod ipc;
mod kubelet;
#[cfg(feature = "demo")]
mod lab;
#[cfg(feature = "demo")]
mod lab_page;
#[cfg(feature = "demo")]
mod lab_sheet;
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
mod process_one;
mod protocol;
mod proxies;
mod proxy_protocol;
mod quota;
mod rate;
mod records;
mod refusals;
mod registry;
mod reload;
mod secure_registry;
mod service_manager;
mod sessions;
mod slow;
mod standard_library;
mod start;
mod stop;
mod support;
mod swap;
mod tables;
mod tls;
mod traces;
mod tutorial;
mod unix_clients;
mod uploads;
mod validators;
mod wasi03;
