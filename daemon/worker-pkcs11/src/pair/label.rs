//! Labels as `CKA_LABEL`.

use cryptoki::object::Attribute;
use mintwarden_worker::label::{Label, PREFIX};

pub(super) fn attribute(label: &Label) -> Attribute {
    Attribute::Label(label.to_string().into_bytes())
}

/// The label among these attributes, if it is one of ours.
pub(crate) fn among(attributes: &[Attribute]) -> Option<Label> {
    attributes.iter().find_map(|attribute| match attribute {
        Attribute::Label(label) => Label::parse(label),
        _ => None,
    })
}

/// Whether the label among these attributes begins like one of ours, whatever follows.
pub(super) fn has_our_prefix(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match attribute {
        Attribute::Label(label) => label.starts_with(PREFIX.as_bytes()),
        _ => false,
    })
}
