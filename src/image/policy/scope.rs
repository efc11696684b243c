//! Scopes of the policy file's `docker` transport.

use crate::image::Reference;

/// The scopes that an image is in, the narrowest first: the image itself, its repository, the
/// namespaces above it, the registry, the registry's domains with `*.` in front, everything.
pub(super) fn scopes_of(reference: &Reference) -> Vec<String> {
    let mut scopes = vec![reference.to_string()];
    let mut name = reference.name();
    loop {
        scopes.push(name.clone());
        match name.rfind('/') {
            Some(slash) => name.truncate(slash),
            None => break,
        }
    }
    let host = reference.registry.split(':').next().unwrap_or_default();
    let mut domain = host;
    while let Some((_, parent)) = domain.split_once('.') {
        scopes.push(format!("*.{parent}"));
        domain = parent;
    }
    scopes.push(String::new());
    scopes
}

#[cfg(test)]
mod tests {
    use super::scopes_of;
    use crate::image::Reference;

    #[test]
    fn from_the_image_to_everything() {
        let reference = Reference::parse("r.example.com:5000/a/b:1").unwrap();
        assert_eq!(
            scopes_of(&reference),
            [
                "r.example.com:5000/a/b:1",
                "r.example.com:5000/a/b",
                "r.example.com:5000/a",
                "r.example.com:5000",
                "*.example.com",
                "*.com",
                "",
            ]
        );
        let scopes = scopes_of(&Reference::parse("busybox").unwrap());
        assert!(scopes.contains(&"docker.io/library/busybox".to_owned()), "{scopes:?}");
    }
}
