//! Calls by method and gRPC code.

use std::{collections::HashMap, sync::OnceLock};

use mintwarden_proto::FILE_DESCRIPTOR_SET;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic::Code;

use super::Labels;

/// What is no method of the API: health, reflection, and what callers make up.
const OTHER: &str = "other";

/// Calls, by method and code.
#[derive(Debug)]
pub struct Rpcs {
    family: Family<Labels, Counter>,
    methods: HashMap<String, Method>,
    other: Method,
}

#[derive(Debug)]
struct Method {
    name: String,
    /// One for each code, made when it first comes up: most never do.
    codes: [OnceLock<Counter>; 17],
}

impl Rpcs {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::<Labels, Counter>::default();
        registry.register(
            "rpcs",
            "gRPC calls that were answered, by method and status code",
            family.clone(),
        );
        let methods = methods().into_iter().map(|path| {
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            (path, Method { name, codes: Default::default() })
        });
        let other = Method { name: OTHER.to_owned(), codes: Default::default() };
        let rpcs = Self { family, methods: methods.collect(), other };
        for method in rpcs.methods.values().chain([&rpcs.other]) {
            rpcs.counter(method, Code::Ok);
        }
        rpcs
    }

    /// Counts an answer to a call of the method at `path`.
    pub fn count(&self, path: &str, code: Code) {
        self.counter(self.methods.get(path).unwrap_or(&self.other), code).inc();
    }

    fn counter<'a>(&self, method: &'a Method, code: Code) -> &'a Counter {
        method.codes[code as usize].get_or_init(|| {
            let labels = vec![("method", method.name.clone()), ("code", name(code))];
            self.family.get_or_create_owned(&labels)
        })
    }
}

/// The paths of all methods of the API, as its descriptor has them.
fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the build made it");
    let mut paths = vec![];
    for file in &set.file {
        for service in &file.service {
            let path = |method: &MethodDescriptorProto| {
                format!("/{}.{}/{}", file.package(), service.name(), method.name())
            };
            paths.extend(service.method.iter().map(path));
        }
    }
    paths
}

/// A code as the protocol writes it, e.g. `INVALID_ARGUMENT`.
fn name(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_codes_are_closed_sets() {
        let mut registry = Registry::default();
        let rpcs = Rpcs::register(&mut registry);
        rpcs.count("/mintwarden.v1.SigningService/Sign", Code::InvalidArgument);
        for n in 0..100 {
            rpcs.count(&format!("/made.up/Method{n}"), Code::Unimplemented);
        }
        let text = super::super::encode(&registry);
        for line in [
            r#"rpcs_total{method="Sign",code="INVALID_ARGUMENT"} 1"#,
            r#"rpcs_total{method="Sign",code="OK"} 0"#,
            r#"rpcs_total{method="other",code="UNIMPLEMENTED"} 100"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
        assert!(!text.contains("Method"), "{text}");
    }
}
