//! What is asked of a key pair before it may sign (I1, I3). Deny by default: an attribute that the
//! token does not show is a defect like a wrong one, unless a quirk names it.

#[cfg(test)]
mod tests;

use cryptoki::object::{Attribute, AttributeType, KeyType};
use mintwarden_hsm_config::quirks::{KeyAttribute, Quirks};
use mintwarden_worker::{
    Algorithm,
    device::{DeviceKey, KeyHandle},
    label::Label,
};

use super::{label, public::public_key};
use crate::mechanism::{Curve, cryptoki_type};

/// A key object, as far as the token shows it.
#[derive(Debug)]
pub(super) struct Object {
    attributes: Vec<Attribute>,
}

impl Object {
    pub(super) fn new(attributes: Vec<Attribute>) -> Self {
        Self { attributes }
    }

    pub(super) fn shown(&self, wanted: AttributeType) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.attribute_type() == wanted)
    }

    fn label(&self) -> Option<Label> {
        label::among(&self.attributes)
    }
}

/// What an examination has found, in words.
#[derive(Default)]
struct Findings {
    /// Why the key must not be used.
    defects: Vec<String>,
    /// What was not shown, and a quirk excuses.
    unproven: Vec<String>,
}

/// The pair made of all private and public key objects with this handle. One of them at least.
pub(super) fn examine(
    handle: &KeyHandle,
    private: &[Object],
    public: &[Object],
    quirks: &Quirks,
) -> DeviceKey {
    let mut findings = Findings::default();
    let defects = &mut findings.defects;
    if handle.as_bytes().is_empty() {
        defects.push("CKA_ID is empty".to_owned());
    }
    count("private", private, true, defects);
    count("public", public, quirks.public_objects, defects);
    for (half, objects) in [("private", private), ("public", public)] {
        for _ in objects.iter().filter(|object| object.label().is_none()) {
            defects.push(format!("{half} half: CKA_LABEL names no issuer and algorithm"));
        }
    }
    let labels: Vec<_> = private.iter().chain(public).filter_map(Object::label).collect();
    if labels.windows(2).any(|pair| pair[0] != pair[1]) {
        defects.push("the halves' labels (CKA_LABEL) name different issuers or algorithms".into());
    }
    let label = labels.into_iter().next();
    let algorithm = label.as_ref().map(|label| label.algorithm);
    for object in private {
        examine_half("private", object, wanted_private(algorithm), quirks, &mut findings);
        if object.shown(AttributeType::AlwaysAuthenticate)
            == Some(&Attribute::AlwaysAuthenticate(true))
        {
            let defect = "private half: CKA_ALWAYS_AUTHENTICATE is true: it asks for the PIN at \
                          each signature, which a service cannot give";
            findings.defects.push(defect.to_owned());
        }
    }
    for object in public {
        examine_half("public", object, wanted_public(algorithm), quirks, &mut findings);
    }
    // The one object that shows the public key, if it is clear which.
    let shows = match (public, private) {
        ([object], _) => Some(("public", object)),
        ([], [object]) if !quirks.public_objects => Some(("private", object)),
        _ => None,
    };
    let key = shows.zip(algorithm).and_then(|((half, object), algorithm)| {
        public_key(object, algorithm)
            .map_err(|problem| findings.defects.push(format!("{half} half: {problem}")))
            .ok()
    });
    DeviceKey {
        handle: handle.clone(),
        issuer: label.map(|label| label.issuer),
        public: key,
        defects: findings.defects,
        wrapped: None,
        unproven: findings.unproven,
    }
}

fn count(half: &str, objects: &[Object], needed: bool, defects: &mut Vec<String>) {
    match objects.len() {
        1 => {}
        0 if needed => defects.push(format!("the {half} half is missing")),
        0 => {}
        many => defects.push(format!("{many} {half} key objects have this CKA_ID")),
    }
}

fn examine_half(
    half: &str,
    object: &Object,
    wanted: Vec<(KeyAttribute, Attribute)>,
    quirks: &Quirks,
    findings: &mut Findings,
) {
    for (name, wanted) in wanted {
        match object.shown(wanted.attribute_type()) {
            Some(shown) if is_as_wanted(shown, &wanted) => {}
            Some(_) if name == KeyAttribute::Local && !quirks.local_flag => {
                findings.unproven.push(format!("{half} half: {name} says nothing on this device"));
            }
            Some(shown) => {
                findings.defects.push(format!("{half} half: {name} is {}", value(shown, &wanted)));
            }
            None => {
                let finding = format!("{half} half: {name} is not shown by the device");
                let excused = quirks.not_shown.contains(&name);
                let list = if excused { &mut findings.unproven } else { &mut findings.defects };
                list.push(finding);
            }
        }
    }
}

fn wanted_private(algorithm: Option<Algorithm>) -> Vec<(KeyAttribute, Attribute)> {
    let mut wanted = vec![
        (KeyAttribute::Token, Attribute::Token(true)),
        (KeyAttribute::Private, Attribute::Private(true)),
        (KeyAttribute::Sensitive, Attribute::Sensitive(true)),
        (KeyAttribute::AlwaysSensitive, Attribute::AlwaysSensitive(true)),
        (KeyAttribute::Extractable, Attribute::Extractable(false)),
        (KeyAttribute::NeverExtractable, Attribute::NeverExtractable(true)),
        (KeyAttribute::Local, Attribute::Local(true)),
        (KeyAttribute::Sign, Attribute::Sign(true)),
    ];
    wanted.extend(wanted_type(algorithm));
    wanted
}

fn wanted_public(algorithm: Option<Algorithm>) -> Vec<(KeyAttribute, Attribute)> {
    let mut wanted = vec![(KeyAttribute::Token, Attribute::Token(true))];
    wanted.extend(wanted_type(algorithm));
    wanted
}

/// Type of key and curve; nothing where it is not known what the key is for, which is a defect.
fn wanted_type(algorithm: Option<Algorithm>) -> Vec<(KeyAttribute, Attribute)> {
    let Some(key_type) = algorithm.map(Algorithm::key_type) else { return vec![] };
    let mut wanted = vec![(KeyAttribute::KeyType, Attribute::KeyType(cryptoki_type(key_type)))];
    if let Some(curve) = Curve::of(key_type) {
        let params = Attribute::EcParams(curve.params(Quirks::default().ed25519_params));
        wanted.push((KeyAttribute::EcParams, params));
    }
    wanted
}

/// Equal, or another name of the same curve.
fn is_as_wanted(shown: &Attribute, wanted: &Attribute) -> bool {
    match (shown, wanted) {
        (Attribute::EcParams(shown), Attribute::EcParams(wanted)) => {
            Curve::named(wanted).is_some_and(|curve| curve.is_named_by(shown))
        }
        _ => shown == wanted,
    }
}

fn value(shown: &Attribute, wanted: &Attribute) -> String {
    match (shown, wanted) {
        (
            Attribute::Token(yes)
            | Attribute::Private(yes)
            | Attribute::Sensitive(yes)
            | Attribute::AlwaysSensitive(yes)
            | Attribute::Extractable(yes)
            | Attribute::NeverExtractable(yes)
            | Attribute::Local(yes)
            | Attribute::Sign(yes),
            _,
        ) => yes.to_string(),
        (Attribute::KeyType(KeyType::RSA), _) => "CKK_RSA".to_owned(),
        (Attribute::KeyType(shown), Attribute::KeyType(wanted)) => {
            format!("{shown}, not {wanted}")
        }
        (Attribute::EcParams(_), Attribute::EcParams(wanted)) => {
            let name = Curve::named(wanted).map_or("the right curve", |curve| curve.name);
            format!("not {name}")
        }
        _ => "not what it should be".to_owned(),
    }
}
