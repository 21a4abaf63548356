// CSV as in RFC 4180: fields with commas, quotes or line breaks are quoted, quotes are doubled.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace facet {

std::string csv_line(const std::vector<std::string>& fields);  // ends with \n

// The first record of `text`: its fields, and its length with the line end. Length 0: `text` ends
// within the record (it is torn).
struct CsvRecord {
  std::vector<std::string> fields;
  std::size_t bytes = 0;
};
CsvRecord parse_csv_record(std::string_view text);

}  // namespace facet
