//! One value, as all that it can be read as.

/// A value as it was given, and what it means. A text that is a number is one, wherever it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    text: String,
    number: Option<f64>,
    boolean: Option<bool>,
    fraction: Option<(u32, u32)>,
}

impl Value {
    /// Of a text: the content of a file, what an operator says, a string of the static layer.
    pub fn of_text(text: impl Into<String>) -> Self {
        let text = text.into();
        let trimmed = text.trim();
        let number = trimmed.parse().ok().filter(|number: &f64| number.is_finite());
        let boolean = match () {
            () if trimmed.eq_ignore_ascii_case("true") => Some(true),
            () if trimmed.eq_ignore_ascii_case("false") => Some(false),
            () => None,
        };
        let fraction = if number.is_none() && boolean.is_none() { fraction_of_text(trimmed) } else { None };
        Self { text, number, boolean, fraction }
    }

    /// A number of the static layer.
    pub fn of_number(number: f64) -> Self {
        let text = if number.abs() >= 1e15 { format!("{number:e}") } else { number.to_string() };
        Self { text, number: Some(number).filter(|number| number.is_finite()), boolean: None, fraction: None }
    }

    /// A boolean of the static layer.
    pub fn of_boolean(boolean: bool) -> Self {
        Self { text: boolean.to_string(), number: None, boolean: Some(boolean), fraction: None }
    }

    /// A structure of the static layer that is meant as a fraction: `text` shows it.
    pub fn of_fraction(text: String, fraction: Option<(u32, u32)>) -> Self {
        Self { text, number: None, boolean: None, fraction }
    }

    /// As `/runtime` shows it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As a whole number from 0 on; what has a fraction is rounded down.
    pub fn integer(&self) -> Option<u64> {
        self.number.filter(|number| (0.0..18_446_744_073_709_551_616.0).contains(number)).map(|number| number as u64)
    }

    /// As a number.
    pub fn double(&self) -> Option<f64> {
        self.number
    }

    /// As a boolean.
    pub fn boolean(&self) -> Option<bool> {
        self.boolean
    }

    /// As so many of so many; a whole number is a percentage, and beyond 100 it is all.
    pub fn fraction(&self) -> Option<(u32, u32)> {
        self.fraction.or_else(|| self.integer().map(|percent| (u32::try_from(percent.min(100)).unwrap_or(100), 100)))
    }
}

/// The number behind a name of `FractionalPercent.DenominatorType`.
pub fn denominator(name: &str) -> Option<u32> {
    match name {
        "HUNDRED" => Some(100),
        "TEN_THOUSAND" => Some(10_000),
        "MILLION" => Some(1_000_000),
        _ => None,
    }
}

/// `numerator: 5`, `denominator: MILLION`, on lines or in braces, in any order and with quotes or without.
fn fraction_of_text(text: &str) -> Option<(u32, u32)> {
    let inner = text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}'))?;
    let (mut numerator, mut of) = (None, None);
    for part in inner.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once(':')?;
        let unquoted = |text: &'_ str| text.trim().trim_matches('"').trim_matches('\'').to_owned();
        match unquoted(name).as_str() {
            "numerator" => numerator = Some(unquoted(value).parse().ok()?),
            "denominator" => of = Some(denominator(&unquoted(value))?),
            _ => return None,
        }
    }
    (numerator.is_some() || of.is_some()).then(|| (numerator.unwrap_or(0), of.unwrap_or(100)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_what_they_look_like() {
        let number = Value::of_text(" 12");
        assert_eq!((number.text(), number.integer(), number.fraction()), (" 12", Some(12), Some((12, 100))));
        assert_eq!(Value::of_text("50.5").integer(), Some(50));
        assert_eq!(Value::of_text("50.5").double(), Some(50.5));
        assert_eq!(Value::of_text("250").fraction(), Some((100, 100)));
        for negative in ["-3", "-0.5", "inf", "NaN", "1e30", "", "hello", "\"100\""] {
            assert_eq!(Value::of_text(negative).integer(), None, "{negative}");
        }
        let truth = Value::of_text("True");
        assert_eq!((truth.boolean(), truth.integer(), truth.fraction()), (Some(true), None, None));
    }

    #[test]
    fn fractions_are_written_in_many_ways() {
        for text in [
            "{numerator: 5, denominator: MILLION}",
            "numerator: 5\ndenominator: MILLION",
            r#"{"denominator":"MILLION","numerator":5}"#,
        ] {
            assert_eq!(Value::of_text(text).fraction(), Some((5, 1_000_000)), "{text}");
        }
        assert_eq!(Value::of_text("numerator: 5").fraction(), Some((5, 100)));
        for text in ["numerator: -5", "numerator: 5, other: 1", "{numerator: 5", "denominator: DOZEN", "{}", ":"] {
            assert_eq!(Value::of_text(text).fraction(), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_shown_as_they_are_written() {
        for (number, text) in
            [(5.0, "5"), (1.25, "1.25"), (12_345_678_901.0, "12345678901"), (1e30, "1e30"), (-3.0, "-3")]
        {
            assert_eq!(Value::of_number(number).text(), text);
        }
    }
}
