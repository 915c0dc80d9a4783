//! Texts in CSV: a spreadsheet must take them for texts.

/// Adds a quote in front of `text` where a spreadsheet would take it for a formula (`=1+1`, `@sum`) or for a number (`1e5`, of a
/// container's id), as people type one there.
pub(super) fn as_text(text: String) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula || text.parse::<f64>().is_ok_and(f64::is_finite) {
        format!("'{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::as_text;

    #[test]
    fn formulas_and_numbers_have_a_quote_in_front() {
        for text in ["=1+1", "+1", "-1", "@sum(a1)", "1e5", "007", "1.5", "123456789012"] {
            assert_eq!(as_text(text.to_owned()), format!("'{text}"));
        }
        for text in [
            "",
            "nginx",
            "a=b",
            "/docker/=1",
            "0a1e5",
            "1e5f",
            "nan",
            "inf",
            "(sd-pam)",
        ] {
            assert_eq!(as_text(text.to_owned()), text);
        }
    }
}
