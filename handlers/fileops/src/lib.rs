//! The file handler: lists, uploads, downloads and deletes the regular files
//! of the one directory it is given.
//!
//! Request bytes in, response bytes out. `request` and `response` speak HTTP,
//! `name` decides what may be a file's name, `conditional` evaluates
//! preconditions and ranges; all of these are pure. `store` alone touches the
//! directory, directly through `wasi:filesystem`: what `std::fs` adds on the way
//! (a table of descriptors, a hash of metadata for every entry) costs more than
//! the work itself.

mod conditional;
mod name;
mod request;
mod response;
mod routes;
mod store;

mod world {
    wit_bindgen::generate!({ world: "handler", path: "../../wit" });

    struct FileOps;

    impl Guest for FileOps {
        fn handle(request: Vec<u8>) -> Vec<u8> {
            crate::routes::handle(&request)
        }
    }

    export!(FileOps);
}
