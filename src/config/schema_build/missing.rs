//! Messages that configurations hold and the package does not carry, which has only what its own types import.

/// Import path and text.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("xds/type/v3/typed_struct.proto", TYPED_STRUCT),
    ("udpa/type/v1/typed_struct.proto", OLD_TYPED_STRUCT),
    ("xds/type/matcher/v3/ip.proto", IP),
    ("xds/type/matcher/v3/domain.proto", NAME),
    ("xds/type/matcher/v3/http_inputs.proto", CEL_INPUT),
];

const TYPED_STRUCT: &str = r#"
syntax = "proto3";
package xds.type.v3;
import "google/protobuf/struct.proto";
message TypedStruct {
  string type_url = 1;
  google.protobuf.Struct value = 2;
}
"#;

const OLD_TYPED_STRUCT: &str = r#"
syntax = "proto3";
package udpa.type.v1;
import "google/protobuf/struct.proto";
message TypedStruct {
  string type_url = 1;
  google.protobuf.Struct value = 2;
}
"#;

const IP: &str = r#"
syntax = "proto3";
package xds.type.matcher.v3;
import "validate/validate.proto";
import "xds/core/v3/cidr.proto";
import "xds/type/matcher/v3/matcher.proto";
message IPMatcher {
  message IPRangeMatcher {
    repeated xds.core.v3.CidrRange ranges = 1 [(validate.rules).repeated = { min_items: 1 }];
    Matcher.OnMatch on_match = 2;
    bool exclusive = 3;
  }
  repeated IPRangeMatcher range_matchers = 1 [(validate.rules).repeated = { min_items: 1 }];
}
"#;

const NAME: &str = r#"
syntax = "proto3";
package xds.type.matcher.v3;
import "validate/validate.proto";
import "xds/type/matcher/v3/matcher.proto";
message ServerNameMatcher {
  message DomainMatcher {
    repeated string domains = 1 [(validate.rules).repeated = { min_items: 1 }];
    Matcher.OnMatch on_match = 2;
  }
  repeated DomainMatcher domain_matchers = 1;
}
"#;

const CEL_INPUT: &str = r#"
syntax = "proto3";
package xds.type.matcher.v3;
message HttpAttributesCelMatchInput {
}
"#;
