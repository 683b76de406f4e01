// lap(x^2 y) = 2 y at some points, its gradient, a program with a mistake, and a small training run.
//
//     cc laplacian.c -I../include -L../target/release -ljetc_c -o laplacian

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "jetc.h"

static void expect(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "failed: %s\n", what);
        exit(1);
    }
}

static bool watch(uint64_t step, uint64_t steps, double loss, void *context) {
    double *last = context;
    *last = loss;
    return step < steps;
}

int main(int count, char **arguments) {
    char *error = NULL;
    JetcProgram *program = jetc_compile("space x, y in box(0..1, 0..1)\noutput r = lap(x^2*y)\n", &error);
    expect(program != NULL && error == NULL, "it compiles");
    JetcSolver *solver = jetc_initial(program, 0, &error);
    expect(solver != NULL, "it needs no weights");
    expect(jetc_columns(solver) == 2 && jetc_width(solver) == 1, "two columns, one result");

    double points[3][2] = {{0.1, 0.2}, {0.5, 0.5}, {0.9, 1.0}}, values[3];
    expect(jetc_eval(solver, points[0], 3, values, &error) == JETC_OK, "it is evaluated");
    for (int k = 0; k < 3; k++) {
        printf("lap(x^2 y) at (%.1f, %.1f) = %.3f\n", points[k][0], points[k][1], values[k]);
        expect(fabs(values[k] - 2 * points[k][1]) < 1e-14, "lap(x^2 y) = 2 y");
    }
    double cotangent[3] = {1, 1, 1}, gradient[3][2];
    expect(jetc_vjp(solver, points[0], 3, cotangent, gradient[0], &error) == JETC_OK, "it is differentiated");
    expect(gradient[1][0] == 0 && gradient[1][1] == 2, "the gradient of 2 y is (0, 2)");
    float single[2] = {0.25f, 0.75f}, value;
    expect(jetc_eval_f32(solver, single, 1, &value, &error) == JETC_OK && value == 1.5f, "in single precision too");

    JetcSolver *moved = jetc_solver_on(solver, "auto", &error);
    expect(moved != NULL && jetc_eval(moved, points[0], 3, values, &error) == JETC_OK, "on a GPU where there is one");
    expect(fabs(values[2] - 2) < 1e-12, "with the same values");
    jetc_solver_free(moved);
    expect(jetc_solver_on(solver, "gpu", &error) == NULL, "no such device");
    printf("%s\n", error);
    jetc_string_free(error);

    double outside[2] = {2.0, 0.5};
    expect(jetc_eval(solver, outside, 1, values, &error) == JETC_DOMAIN && error != NULL, "outside of the domain");
    printf("%s\n", error);
    jetc_string_free(error);
    JetcPlace place;
    expect(jetc_eval_flagged(solver, outside, 1, values, &place, NULL) == JETC_OK && place == JETC_OUTSIDE, "flagged");
    expect(jetc_eval(NULL, outside, 1, values, NULL) == JETC_ARGUMENT, "null is no solver");
    jetc_solver_free(solver);
    jetc_program_free(program);

    expect(jetc_compile("space x\noutput r = lpa(x)\n", &error) == NULL, "a mistake");
    printf("%s", error);
    jetc_string_free(error);

    program = jetc_compile("space x in box(0..1)\nnet N = mlp(width = 8, depth = 2, activation = tanh)\n"
                           "field u = x*(1 - x)*N(x)\nsolve interior: lap(u) = 1\nsample interior = 32\n"
                           "train adam(lr = 1e-2), steps = 100\n", &error);
    expect(program != NULL, "a differential equation");
    double loss = 0;
    solver = jetc_train(program, 0, 4, NULL, watch, &loss, &error);
    expect(solver != NULL, "it is trained");
    double middle[1] = {0.5};
    expect(jetc_eval(solver, middle, 1, values, &error) == JETC_OK, "it is evaluated");
    printf("loss %.2e; u(1/2) = %.4f, exactly -0.125\n", loss, values[0]);
    expect(fabs(values[0] + 0.125) < 0.02, "u(1/2) = -1/8");
    if (count > 1) {
        expect(jetc_save(solver, arguments[1], &error) == JETC_OK, "it is saved");
        JetcSolver *loaded = jetc_load(arguments[1], &error);
        double again;
        expect(loaded && jetc_eval(loaded, middle, 1, &again, &error) == JETC_OK && again == values[0], "and loaded");
        jetc_solver_free(loaded);
    }
    jetc_solver_free(solver);
    jetc_program_free(program);
    return 0;
}
