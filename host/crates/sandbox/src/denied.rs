//! Imports that everybody may have and nobody can use: the network, and instances that have nothing but types.

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, Resource, ResourceType, Val};

use super::handler::{granted, split};
use super::monitor::State;

/// What an import of [`PACKAGE`] comes to.
pub(super) const GRANT: &str = "nothing: whatever asks for a socket gets access-denied";

/// The package that many toolchains import without using it. Whatever would make a socket fails with
/// `access-denied`; whatever would look a name up with `permanent-resolver-failure`, as wasmtime has it.
pub(super) const PACKAGE: &str = "wasi:sockets";

/// What gives a handler the network, with which nothing can be done.
const NETWORK: (&str, &str) = ("wasi:sockets/instance-network", "instance-network");

/// The functions of [`PACKAGE`] that need no socket, and the error code that each fails with.
const FUNCTIONS: &[((&str, &str), &str)] = &[
    (NETWORK, ""),
    (("wasi:sockets/ip-name-lookup", "resolve-addresses"), "permanent-resolver-failure"),
    (("wasi:sockets/tcp-create-socket", "create-tcp-socket"), "access-denied"),
    (("wasi:sockets/udp-create-socket", "create-udp-socket"), "access-denied"),
];

/// The resources that [`PACKAGE`] defines; others of its types stand for these.
const RESOURCES: &[(&str, &str)] = &[
    ("wasi:sockets/network", "network"),
    ("wasi:sockets/udp", "udp-socket"),
    ("wasi:sockets/udp", "incoming-datagram-stream"),
    ("wasi:sockets/udp", "outgoing-datagram-stream"),
    ("wasi:sockets/tcp", "tcp-socket"),
    ("wasi:sockets/ip-name-lookup", "resolve-address-stream"),
];

/// Defines what the component imports of [`PACKAGE`], and instances of types alone.
pub(super) fn link(
    engine: &Engine,
    component: &Component,
    linker: &mut Linker<State>,
) -> wasmtime::Result<()> {
    let ty = component.component_type();
    for (name, item) in ty.imports(engine) {
        let (package, interface, _) = split(name);
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        if package != PACKAGE {
            if granted(name).is_none() {
                linker.instance(name)?;
            }
            continue;
        }
        let mut linked = linker.instance(name)?;
        for (export, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => deny(&mut linked, interface, export)?,
                ComponentItem::Resource(_) if RESOURCES.contains(&(interface, export)) => {
                    linked.resource(export, ResourceType::host::<Socket>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Defines a function that fails, or gives the network; all others are called with a socket, and there is
/// none.
fn deny(
    linked: &mut LinkerInstance<'_, State>,
    interface: &str,
    export: &str,
) -> wasmtime::Result<()> {
    let known = FUNCTIONS.iter().copied().find(|(known, _)| *known == (interface, export));
    let unknown = NoNetwork(format!("{interface} {export}"));
    linked.func_new(export, move |mut store, _, arguments, results| {
        // What was lent has to be given back.
        for argument in arguments {
            if let Val::Resource(lent) = argument {
                lent.resource_drop(&mut store)?;
            }
        }
        let known = known.zip(results.first_mut());
        let ((function, code), result) = known.ok_or_else(|| unknown.clone())?;
        *result = if function == NETWORK {
            store.data_mut().asks_for_network(function);
            let network = Resource::<Socket>::new_own(0);
            Val::Resource(network.try_into_resource_any(&mut store)?)
        } else {
            store.data_mut().deny_network(function);
            Val::Result(Err(Some(Box::new(Val::Enum(code.into())))))
        };
        Ok(())
    })
}

/// The guest called this function of [`PACKAGE`], which needs what there is not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}: there is no network")]
struct NoNetwork(String);

/// A socket; there are none.
enum Socket {}
