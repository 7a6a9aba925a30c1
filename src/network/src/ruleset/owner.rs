//! Whom an element belongs to.

use super::RulesetError;

/// The attachment that an element was made for; its text is the element's comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner<'a> {
    /// Sandbox.
    pub(crate) container_id: &'a str,
    /// Interface inside the sandbox.
    pub(crate) ifname: &'a str,
    /// Network.
    pub(crate) network: &'a str,
}

/// Comments are kept whole up to this length, in bytes.
const COMMENT_LIMIT: usize = 250;

impl<'a> Owner<'a> {
    /// The comment of the owner's elements.
    pub(crate) fn comment(&self) -> Result<String, RulesetError> {
        let comment = format!("{} {} {}", self.container_id, self.ifname, self.network);
        if comment.len() > COMMENT_LIMIT {
            return Err(RulesetError::LongName { comment, limit: COMMENT_LIMIT });
        }
        Ok(comment)
    }

    /// Reads a comment; `None` where it is not of this form.
    pub(crate) fn parse(comment: &'a str) -> Option<Self> {
        let mut words = comment.splitn(3, ' ');
        Some(Self { container_id: words.next()?, ifname: words.next()?, network: words.next()? })
    }

    /// Whether a comment names an attachment to the network by a container that does not live.
    pub(crate) fn is_stale(comment: &str, network: &str, live: &[String]) -> bool {
        Owner::parse(comment).is_some_and(|owner| {
            owner.network == network && !live.iter().any(|id| id == owner.container_id)
        })
    }

    /// Whether a comment says that its element is this owner's.
    pub(crate) fn owns(&self, comment: &str) -> bool {
        comment.starts_with(self.container_id)
            && Owner::parse(comment).is_some_and(|owner| owner == *self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_read_back() {
        let owner = Owner { container_id: "abc", ifname: "eth0", network: "a.b" };
        let comment = owner.comment().unwrap();
        assert_eq!(comment, "abc eth0 a.b");
        assert_eq!(Owner::parse(&comment), Some(owner));
        assert!(owner.owns(&comment));
        assert!(!owner.owns("abc eth1 a.b"));
        assert_eq!(Owner::parse("somebody else's"), None);
        let id = "x".repeat(300);
        let long = Owner { container_id: &id, ..owner };
        assert!(long.comment().unwrap_err().to_string().contains("250"));
    }
}
