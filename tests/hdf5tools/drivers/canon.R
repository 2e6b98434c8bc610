# Values in one comparable form, as canon.py spells them.

suppressMessages({library(bit64); library(jsonlite)})

hexed <- function(bytes) paste(as.character(bytes), collapse = "")

# R has the axes in reverse order, hence the elements in the order of the file.
form <- function(kind, shape, hex) list(kind = unbox(kind), shape = as.numeric(shape), hex = hex)

floats <- function(numbers) {
  numbers[is.na(numbers)] <- NaN
  unbox(hexed(writeBin(as.double(numbers), raw(), endian = "little")))
}

integers <- function(numbers) {
  whole <- if (is.integer64(numbers)) numbers else as.integer64(numbers)
  unbox(hexed(writeBin(unclass(as.vector(whole)), raw(), endian = "little")))
}

texts <- function(items) {
  I(vapply(items, function(item) hexed(charToRaw(if (is.na(item)) "NA" else item)), "", USE.NAMES = FALSE))
}

truths <- function(value) {
  if (is.factor(value)) as.integer(toupper(as.character(value)) == "TRUE") else as.integer(value)
}

formed <- function(value, shape = rev(dim(value))) {
  if (is.null(value)) return(form("empty", numeric(0), unbox("")))
  if (is.list(value) && identical(names(value), c("r", "i"))) {
    parts <- list(as.vector(value$r), as.vector(value$i))
    axes <- if (is.null(shape) || is.data.frame(value)) length(parts[[1]]) else shape
    return(form("complex", axes, floats(do.call(rbind, parts))))
  }
  if (is.data.frame(value)) {
    fields <- lapply(value, function(column) formed(column, if (is.null(dim(column))) length(column) else rev(dim(column))))
    return(form("compound", nrow(value), fields))
  }
  if (is.list(value)) {
    fields <- lapply(value, formed)
    return(form("compound", shape, fields))
  }
  if (is.factor(value) || is.logical(value)) return(form("int", shape, integers(truths(value))))
  if (is.integer64(value)) return(form("int", shape, integers(value)))
  if (is.character(value)) return(form("text", shape, texts(as.vector(value))))
  if (is.raw(value)) return(form("int", shape, integers(as.integer(value))))
  if (is.integer(value)) return(form("int", shape, integers(as.vector(value))))
  if (is.complex(value)) return(form("complex", shape, floats(rbind(Re(c(value)), Im(c(value))))))
  form("float", shape, floats(c(value)))
}

failed <- function(error) form("error", numeric(0), unbox(paste0("Error: ", substr(conditionMessage(error), 1, 200))))

tried <- function(read) tryCatch(read(), error = failed)

say <- function(said) cat("\nsaid: ", toJSON(said, null = "null", digits = NA), "\n", sep = "")

named <- function(entries) if (length(entries)) entries else structure(list(), names = character(0))
