// jetc for C. Made by cbindgen from bindings/c/src/lib.rs; do not edit.

#ifndef JETC_H
#define JETC_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// How a call ended.
typedef enum {
  // Well.
  JETC_OK = 0,
  // A null pointer, or a string that is not UTF-8.
  JETC_ARGUMENT = 1,
  // The program has errors.
  JETC_PROGRAM = 2,
  // A file cannot be read or written, or is damaged.
  JETC_FILE = 3,
  // An array has the wrong size, or a tensor is missing.
  JETC_SHAPE = 4,
  // A point is outside of the domain, or not finite.
  JETC_DOMAIN = 5,
  // Something that this version cannot do, or a failure of training.
  JETC_FAILED = 6,
} JetcStatus;

// Where a point lies.
enum JetcPlace
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // In the domain.
  JETC_INSIDE = 0,
  // Outside: the values are an extrapolation.
  JETC_OUTSIDE = 1,
  // A coordinate is infinite or NaN: the values mean nothing.
  JETC_NOT_FINITE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum JetcPlace JetcPlace;
#else
typedef uint8_t JetcPlace;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A compiled program.
typedef struct JetcProgram JetcProgram;

// An operator with weights, or a trained solution, that knows its domain.
typedef struct JetcSolver JetcSolver;

// Sees every step of training: number of updates done, of updates in all, loss; the last argument is the caller's own. Training
// goes on while it returns true.
typedef bool (*JetcObserver)(uint64_t step, uint64_t steps, double loss, void *context);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Compiles a program. Null on an error.
//
// # Safety
// `text` is a string that ends with zero; `error` is null or can be written.
JetcProgram *jetc_compile(const char *text, char **error);

// Compiles a file. Null on an error.
//
// # Safety
// `path` is a string that ends with zero; `error` is null or can be written.
JetcProgram *jetc_compile_file(const char *path, char **error);

// What will be computed, for people. Free it with `jetc_string_free`; null on an error.
//
// # Safety
// `program` is a handle; `error` is null or can be written.
char *jetc_plan(const JetcProgram *program, char **error);

// The program with the initial weights of a seed. Null on an error.
//
// # Safety
// `program` is a handle; `error` is null or can be written.
JetcSolver *jetc_initial(const JetcProgram *program, uint64_t seed, char **error);

// Trains the program in f64: `steps` updates, 0 for those of its `train` statement. `out` is null or a folder for checkpoint, history
// and report. Null on an error.
//
// # Safety
// `program` is a handle; `out` is null or a string that ends with zero; `observer` may be called with `context`; `error` is null
// or can be written.
JetcSolver *jetc_train(const JetcProgram *program,
                       uint64_t steps,
                       uint64_t seed,
                       const char *out,
                       JetcObserver observer,
                       void *context,
                       char **error);

// The same solver on a device: `auto` (a GPU where everything is there for it, else the CPU), `cpu`, `cuda:0`. A new handle; null
// on an error.
//
// # Safety
// `solver` is a handle; `device` is a string that ends with zero; `error` is null or can be written.
JetcSolver *jetc_solver_on(const JetcSolver *solver,
                           const char *device,
                           char **error);

// Loads an artifact: `NAME.solver` of `jetc build`, `solver.safetensors` of `jetc train`. Null on an error.
//
// # Safety
// `path` is a string that ends with zero; `error` is null or can be written.
JetcSolver *jetc_load(const char *path,
                      char **error);

// The same from memory.
//
// # Safety
// `bytes` holds `len` bytes; `error` is null or can be written.
JetcSolver *jetc_load_bytes(const uint8_t *bytes, size_t len, char **error);

// Writes an artifact, atomically.
//
// # Safety
// `solver` is a handle; `path` is a string that ends with zero; `error` is null or can be written.
JetcStatus jetc_save(const JetcSolver *solver, const char *path, char **error);

// Columns of a point; 0 for null.
//
// # Safety
// `solver` is null or a handle.
size_t jetc_columns(const JetcSolver *solver);

// Columns of the values; 0 for null.
//
// # Safety
// `solver` is null or a handle.
size_t jetc_width(const JetcSolver *solver);

// Values at `count` points of the domain, in f64: `points` [count, columns] to `values` [count, width]. Here and below an array that is
// written has no part in common with another.
//
// # Safety
// `solver` is a handle; the arrays are as large as said, and what is written is apart; `error` is null or can be written.
JetcStatus jetc_eval(const JetcSolver *solver,
                     const double *points,
                     size_t count,
                     double *values,
                     char **error);

// The same in f32.
//
// # Safety
// As `jetc_eval`.
JetcStatus jetc_eval_f32(const JetcSolver *solver,
                         const float *points,
                         size_t count,
                         float *values,
                         char **error);

// Values at any points, in f64, and where each point lies: `places` [count].
//
// # Safety
// As `jetc_eval`.
JetcStatus jetc_eval_flagged(const JetcSolver *solver,
                             const double *points,
                             size_t count,
                             double *values,
                             JetcPlace *places,
                             char **error);

// The gradient of sum(cotangent * values) with respect to points of the domain, in f64: `cotangent` [count, width] to `gradient`
// [count, columns].
//
// # Safety
// As `jetc_eval`.
JetcStatus jetc_vjp(const JetcSolver *solver,
                    const double *points,
                    size_t count,
                    const double *cotangent,
                    double *gradient,
                    char **error);

// Frees a program; null is fine.
//
// # Safety
// `program` is null or a handle that nobody uses any more.
void jetc_program_free(JetcProgram *program);

// Frees a solver; null is fine.
//
// # Safety
// `solver` is null or a handle that nobody uses any more.
void jetc_solver_free(JetcSolver *solver);

// Frees a string that jetc gave; null is fine.
//
// # Safety
// `string` is null or came from jetc, and nobody uses it any more.
void jetc_string_free(char *string);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* JETC_H */
